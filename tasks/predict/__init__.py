"""Predict: answer every row of a table, a folder or JSON lines, in parts that survive a kill."""
