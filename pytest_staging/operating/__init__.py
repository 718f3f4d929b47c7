"""Running a capacity profile: the rules of the room capacity/, a Compose program, and what is recorded of it."""
