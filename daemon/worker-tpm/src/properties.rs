//! What a TPM says of itself (`TPM_PT`, TPM 2.0 part 2 section 6.13).

use mintwarden_worker::device::{Description, DeviceError};
use tss_esapi::{
    Context,
    constants::{CapabilityType, PropertyTag},
    structures::{CapabilityData, TaggedProperty},
};

use crate::{command, examine::Firmware};

/// The fixed properties that matter here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Properties {
    /// `TPM_PT_MANUFACTURER`, four letters of the TCG's registry, e.g. `IFX`.
    pub(crate) manufacturer: String,
    /// `TPM_PT_VENDOR_STRING_1` to `_4`.
    pub(crate) vendor: String,
    /// `TPM_PT_FIRMWARE_VERSION_1` and `_2`.
    pub(crate) firmware: Firmware,
    /// `TPM_PT_REVISION`: of the specification, in hundredths.
    pub(crate) revision: u32,
}

/// More than a TPM has.
const ALL: u32 = 127;

/// Asks for the properties from `first` on; one that is not there counts as 0.
pub(crate) fn ask(
    context: &mut Context,
    first: PropertyTag,
) -> Result<impl Fn(PropertyTag) -> u32 + use<>, DeviceError> {
    let first = u32::from(first);
    let (data, _) = command::run(context, "asking the TPM for its properties", |context| {
        context.get_capability(CapabilityType::TpmProperties, first, ALL)
    })?;
    let list = match data {
        CapabilityData::TpmProperties(list) => Some(list),
        _ => None,
    };
    let find = move |tag| list.as_ref().and_then(|list| list.find(tag).map(TaggedProperty::value));
    Ok(move |tag| find(tag).unwrap_or_default())
}

impl Properties {
    /// Asks the TPM.
    pub(crate) fn read(context: &mut Context) -> Result<Self, DeviceError> {
        let value = ask(context, PropertyTag::FamilyIndicator)?;
        let text = |tags: &[PropertyTag]| {
            let bytes = tags.iter().flat_map(|tag| value(*tag).to_be_bytes());
            let printable = bytes.filter(|byte| byte.is_ascii_graphic() || *byte == b' ');
            printable.map(char::from).collect::<String>().trim().to_owned()
        };
        let firmware = [PropertyTag::FirmwareVersion1, PropertyTag::FirmwareVersion2].map(&value);
        Ok(Self {
            manufacturer: text(&[PropertyTag::Manufacturer]),
            vendor: text(&[
                PropertyTag::VendorString1,
                PropertyTag::VendorString2,
                PropertyTag::VendorString3,
                PropertyTag::VendorString4,
            ]),
            firmware: Firmware::new(firmware[0], firmware[1]),
            revision: value(PropertyTag::Revision),
        })
    }

    /// As a device describes itself.
    pub(crate) fn describe(&self) -> Description {
        let revision = format!("{}.{:02}", self.revision / 100, self.revision % 100);
        Description {
            manufacturer: self.manufacturer.clone(),
            model: format!("{} (TPM 2.0 revision {revision})", self.vendor),
            serial: String::new(),
            label: String::new(),
            library: format!("firmware {}", self.firmware),
        }
    }
}
