"""Small applications that another package might bring: what the contract must carry."""
