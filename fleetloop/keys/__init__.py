"""The ceremony of the root keys: who may sign what, decided offline by the holders of two of three keys.

It works on files alone and needs no hub, except to ask for its public keys and to hand a finished root in.
"""
