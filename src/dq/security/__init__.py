"""Keys, certificates, encryption, and pickles from strangers."""
