"""Will this request for a mortgage be refused?"""
