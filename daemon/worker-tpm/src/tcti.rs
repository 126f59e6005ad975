//! The way to the TPM, as tss-esapi wants it.

use mintwarden_hsm_config::device::Tcti;
use mintwarden_worker::device::{Cause, DeviceError, Remedy};
use tss_esapi::tcti_ldr::{TabrmdConfig, TctiNameConf};

/// The same way in the words of tss-esapi.
pub(crate) fn name_conf(tcti: &Tcti) -> Result<TctiNameConf, DeviceError> {
    let refused = |what: &str| DeviceError::new(Cause::TpmUnreachable, Remedy::Park, what);
    let name_conf = match tcti {
        Tcti::Device(path) => path.display().to_string().parse().ok().map(TctiNameConf::Device),
        Tcti::SwtpmTcp { host, port } => {
            format!("host={host},port={port}").parse().ok().map(TctiNameConf::Swtpm)
        }
        Tcti::Tabrmd => Some(TctiNameConf::Tabrmd(TabrmdConfig::default())),
    };
    name_conf.ok_or_else(|| refused("libtss2 does not take it"))
}
