"""Small pieces that several rooms share."""
