//! Events: what happened in a drain.
