"""Criticism: is the posterior to be believed?"""
