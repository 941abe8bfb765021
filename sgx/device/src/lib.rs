//! The interface of an SGX machine, in the shape of the Linux driver and vDSO.
