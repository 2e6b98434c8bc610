"""How things are shown to people: text that is safe and short, summaries in lines and in HTML.

Pure functions from facts to text: nothing here knows what an archive is. Names and values come from files
that somebody else may have made, of any length and with any character.
"""
