//! Finds the PKCS#11 token: by label or serial number, never by slot number.

use cryptoki::{
    context::Pkcs11,
    slot::{Slot, TokenInfo},
};
use mintwarden_hsm_config::device::TokenSelector;
use mintwarden_worker::{
    device::{Cause, DeviceError},
    watch,
};

use crate::fault::fault;

/// All PKCS#11 tokens that the module shows, initialised or not.
///
/// A slot whose token cannot be read is passed over: it is as good as empty, and the tokens beside
/// it are not to suffer.
pub(crate) fn all(context: &Pkcs11) -> Result<Vec<(Slot, TokenInfo)>, DeviceError> {
    let slots = watch::call(|| context.get_slots_with_token())
        .map_err(|error| fault("listing the slots with a PKCS#11 token", &error))?;
    let mut tokens = Vec::with_capacity(slots.len());
    for slot in slots {
        match watch::call(|| context.get_token_info(slot)) {
            Ok(info) => tokens.push((slot, info)),
            Err(error) => {
                let error = fault("reading a PKCS#11 token's description", &error);
                tracing::warn!(slot = slot.id(), %error, "a slot is passed over");
            }
        }
    }
    Ok(tokens)
}

/// The one initialised PKCS#11 token that `selector` means.
pub(crate) fn find(
    context: &Pkcs11,
    selector: &TokenSelector,
) -> Result<(Slot, TokenInfo), DeviceError> {
    let mut tokens = all(context)?;
    tokens.retain(|(_, info)| info.token_initialized());
    choose(tokens, selector, |(_, info)| {
        (padding_off(info.label()), padding_off(info.serial_number()))
    })
}

/// `CK_TOKEN_INFO` pads with blanks; some modules pad with NULs.
pub(crate) fn padding_off(text: &str) -> &str {
    text.trim_end_matches([' ', '\0'])
}

fn choose<T>(
    mut tokens: Vec<T>,
    selector: &TokenSelector,
    names: impl Fn(&T) -> (&str, &str),
) -> Result<T, DeviceError> {
    let is_meant = |token: &T| match (selector, names(token)) {
        (TokenSelector::Label(wanted), (label, _)) => label == wanted,
        (TokenSelector::Serial(wanted), (_, serial)) => serial == wanted,
    };
    let list = |tokens: &mut dyn Iterator<Item = &T>| {
        tokens
            .map(&names)
            .map(|(label, serial)| format!("label {label:?} (serial number {serial:?})"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let count = tokens.iter().filter(|token| is_meant(token)).count();
    match count {
        1 => {}
        0 => {
            let there = match list(&mut tokens.iter()) {
                none if none.is_empty() => "no initialised PKCS#11 token at all".to_owned(),
                some => some,
            };
            let detail = format!(
                "no PKCS#11 token has {selector}; the module shows {there}; check token_label or \
                 token_serial, and what the module takes from `environment`"
            );
            // A network HSM's token comes back by itself.
            return Err(DeviceError::of(Cause::TokenAbsent, detail));
        }
        _ => {
            let those = list(&mut tokens.iter().filter(|token| is_meant(token)));
            let detail = format!(
                "{count} PKCS#11 tokens have {selector}: {those}; say which by token_serial in \
                 place of token_label"
            );
            return Err(DeviceError::of(Cause::TokenAmbiguous, detail));
        }
    }
    let index = tokens.iter().position(is_meant).expect("it was counted above");
    Ok(tokens.swap_remove(index))
}

#[cfg(test)]
mod tests {
    use mintwarden_worker::device::Remedy;

    use super::*;

    fn pick(
        tokens: &[(&'static str, &'static str)],
        selector: TokenSelector,
    ) -> Result<String, DeviceError> {
        choose(tokens.to_vec(), &selector, |(label, serial)| (label, serial))
            .map(|(_, serial)| serial.to_owned())
    }

    fn label(label: &str) -> TokenSelector {
        TokenSelector::Label(label.to_owned())
    }

    const TWINS: [(&str, &str); 3] = [("tts", "01"), ("other", "02"), ("tts", "03")];

    #[test]
    fn one_token_is_found_by_label_or_serial_number() {
        assert_eq!(pick(&TWINS, label("other")), Ok("02".to_owned()));
        assert_eq!(pick(&TWINS, TokenSelector::Serial("03".to_owned())), Ok("03".to_owned()));
    }

    #[test]
    fn a_label_that_is_not_there_lists_those_that_are() {
        let error = pick(&TWINS, label("TTS")).expect_err("labels are exact");
        assert_eq!(error.cause, Cause::TokenAbsent);
        assert!(error.detail.contains("\"other\" (serial number \"02\")"), "{error}");
        let error = pick(&[], label("tts")).expect_err("nothing there");
        assert!(error.detail.contains("no initialised PKCS#11 token at all"), "{error}");
    }

    #[test]
    fn two_tokens_with_the_label_are_named_by_serial_number() {
        let error = pick(&TWINS, label("tts")).expect_err("ambiguous");
        assert_eq!((error.cause, error.remedy), (Cause::TokenAmbiguous, Remedy::Park));
        for expected in ["\"01\"", "\"03\"", "token_serial"] {
            assert!(error.detail.contains(expected), "{error}");
        }
        assert!(!error.detail.contains("\"02\""), "{error}");
    }

    #[test]
    fn padding_is_no_part_of_a_label() {
        assert_eq!(padding_off("tts   "), "tts");
        assert_eq!(padding_off("my tts\0\0"), "my tts");
    }
}
