"""fedarchive beside its peers, measured the same way for each.

``python -m benchmarks --help`` says how to run it. What each module knows:

shapes      what is saved: names, shapes and dtypes of models, and seeded values for them
peers/      how each library is called: one small class each, imported when it is made
operations  what is timed, in terms of a peer's methods
cell        one peer and one operation in a process of its own
runner      starts the cells and runs them in turns: A B C A B C
commands    what importing and a command of the shell cost
edits       what changing one layer costs, beside cp
looks       what stats and diff of two archives cost, beside loading them
machine     what it ran on
goals       the ratios we promised
tables      results as rows of words
report      all of it as text, Markdown and JSON
chart       and as a picture
"""
