"""Embeddings that tests can reckon with."""

import hashlib
import math
import re

from langchain_core.embeddings import Embeddings


class WordEmbedding(Embeddings):
    """Adds up a direction for each word, so that texts with common words are near each other."""

    def __init__(self, size=64):
        self.size = size
        self.embedded = []  # every text that was embedded as a document

    def embed_documents(self, texts):
        self.embedded += texts
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text):
        vector = [1e-3] * self.size
        for word in re.findall(r"\w+", text.lower()):
            digest = hashlib.sha256(word.encode()).digest()
            place = int.from_bytes(digest[:4], "big") % self.size
            vector[place] += 1 if digest[4] % 2 else -1
        return vector


class GivenEmbedding(Embeddings):
    """Returns the vectors that it was given for texts."""

    def __init__(self, vectors):
        self.vectors = vectors

    def embed_documents(self, texts):
        return [self.vectors[text] for text in texts]

    def embed_query(self, text):
        return self.vectors[text]


def cosine(one, other):
    """The cosine of two vectors, in plain Python."""
    product = math.fsum(a * b for a, b in zip(one, other, strict=True))
    return product / math.hypot(*one) / math.hypot(*other)
