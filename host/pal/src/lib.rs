//! Untrusted runtime: loads an enclave, runs its threads, serves its OCALLs.
