"""Text into numbers: words, BPE, WordPiece, Unigram, SentencePiece, a module each."""
