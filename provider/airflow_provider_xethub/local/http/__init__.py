"""HTTP of the local Hub that is neither of the Hub nor of CAS."""
