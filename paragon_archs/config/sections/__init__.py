"""The sections of an option file: what each key takes, its default, its effect."""
