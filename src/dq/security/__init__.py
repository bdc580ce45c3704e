"""Keys, certificates, encryption, and pickles from peers that are not trusted."""
