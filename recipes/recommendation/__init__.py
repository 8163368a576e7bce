"""Which films will this person want to see next?"""
