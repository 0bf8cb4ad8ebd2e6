//! What the shell scripts among the files of a cluster have in common.

/// POSIX sh that sets `self` to the script's own path, all symbolic links to it followed.
pub const SELF: &str = r#"self=$0
while [ -L "$self" ]; do
  link=$(readlink "$self")
  case $link in
  /*) self=$link ;;
  *) self=$(dirname -- "$self")/$link ;;
  esac
done"#;
