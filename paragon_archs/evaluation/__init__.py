"""Protocols, metrics, speed: every figure of the README comes from here."""
