"""Load tools: each module builds one tool's command and parses its output. Targets execute."""
