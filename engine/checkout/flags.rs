//! How files and folders are opened, and how temporaries are named.

use rustix::fs::OFlags;

/// How folders are opened: never through a symbolic link.
pub(super) const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// How files are opened for reading: never through a symbolic link, and without waiting for the other end of a pipe.
pub(super) const FILE: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// How the names of our temporary files begin. One that is found was left by an engine that was killed.
pub(super) const TEMPORARY: &str = ".isthmus-tmp-";
