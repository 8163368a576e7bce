"""Which language is this text written in?"""
