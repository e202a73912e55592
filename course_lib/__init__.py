"""Support package of a course about making LangChain pipelines fast.

Each notebook has a module (or a package of small ones) of the same name here; `service` is the
provider that the notebooks call, `lab` the bench on which they predict, simulate and measure.
"""

__version__ = "0.1.0"
