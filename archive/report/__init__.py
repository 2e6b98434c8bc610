"""The report: one HTML file about a run or an archive, for a colleague who has neither library nor data.

Python measures what is stored and bounds how much of it there is; the page only draws. `archive.tools.report`
is the public name: it is loaded from here.

==================  ====================================================================
``reporting``       `report`, which users call
``runfigures``      what is measured of a run, round by round
``archivefigures``  what is measured of one archive: arrays, histograms, values
``clientfigures``   how far a client went from the global model
``metriclines``     metrics of rounds and clients as lines, and where they are odd
``findings``        what a reader should look at first
``excerpts``        which rounds, clients and layers are shown where there are many
``pagedata``        all of it as the JSON of the page
``htmlpage``        the page: policy, style, script, and what shows without a script
``assets``          style and script
==================  ====================================================================
"""
