"""Where will tomorrow's open, high, low and close lie?"""
