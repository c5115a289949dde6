"""The command line: one module per `paragon` sub-command, each `main(argv) -> int`."""
