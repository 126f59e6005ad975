//! The device on a real PKCS#11 token: SoftHSM2.

mod fixture;
mod init_token;
mod keys;
mod opening;
