"""What every experiment shares: running, devices, the command line, documents and plotting."""
