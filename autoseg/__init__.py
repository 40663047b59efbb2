"""autoseg: self-configuring segmentation.

The package reads as the pipeline:

    dataset -> fingerprint -> planning -> preprocessing -> networks, training -> inference -> evaluation -> report

`pipeline` joins the stages (one function per command), `cli` parses words and prints, `records` holds what travels
between the stages, `arrays` the pure functions that stages share.
"""

__version__ = "0.1.0"
