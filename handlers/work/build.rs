//! A stack as large as without `handlers/build`'s flags: deflating needs more than 32 KiB.

fn main() {
    println!("cargo::rustc-link-arg-cdylib=-zstack-size=1048576");
    println!("cargo::rerun-if-changed=build.rs");
}
