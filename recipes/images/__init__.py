"""What is in this small picture?"""
