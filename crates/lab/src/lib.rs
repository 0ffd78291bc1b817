//! The lab: network namespaces, links, rules, processes and load on the real kernel, as values whose
//! guards take everything away again.
//!
//! The lab hurts nobody: everything happens in namespaces that it made, load and fills are bounded,
//! and what is global to the host is only ever raised, under one lock across processes, and put back.
