"""Documents held against the program: the rules of `pytest --staging-contracts`, without pytest.

`project.py` puts them together; what they hold documents against (parsers, names) is handed in.
"""
