//! Nothing: this crate is here for its dependencies' features. See its manifest.
