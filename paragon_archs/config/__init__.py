"""Option files: reading, overriding and checking them before anything is created."""
