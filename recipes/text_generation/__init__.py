"""What would this text go on like?"""
