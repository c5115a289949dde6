"""What a neosr checkout gets beside the networks."""
