"""Extension of Stable Diffusion WebUI (A1111) and Forge, which get its script."""
