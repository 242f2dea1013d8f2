"""Pictures: what a file looks like, given the numbers. Finding the numbers is the work of `tools`.

matplotlib is an extra (`pip install caffetools[plot]`) and is imported when the first picture is drawn.
"""
