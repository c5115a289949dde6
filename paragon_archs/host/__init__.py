"""BasicSR made to work on current machines."""
