//! To come in this commit's successors.
