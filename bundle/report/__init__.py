"""The page of a segmented slide: look at it, check every glomerulus, correct, save.

`saver` writes it at the end of inference; `server` serves it. Nothing is imported here: the server starts in a second
without torch, which the saver needs.
"""
