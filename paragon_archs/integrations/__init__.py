"""Where people already are: chaiNNer, ComfyUI, traiNNer-redux, neosr."""
