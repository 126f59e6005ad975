//! What came of calls of devices.

use mintwarden_worker::device::{DeviceKey, KeyHandle};

use super::{Answer, Call, Keeper, KeyOpsError, stepped};
use crate::{
    clock::Clock,
    keyset::{Key, change},
    store::{Store, StoreError},
};

impl<S: Store, C: Clock> Keeper<S, C> {
    /// Takes what came of a call.
    pub async fn finish(&mut self, call: &Call, outcome: Result<Answer, KeyOpsError>) {
        self.busy.remove(&call.device);
        let stored = match outcome {
            Ok(answer) => {
                self.troubles.is_well(&call.device);
                self.take(&call.device, answer).await
            }
            Err(error) => {
                tracing::warn!(issuer = %self.issuer, %error, ?call, "a device could not do its part");
                self.looked.remove(&call.device);
                self.troubles.failed(&call.device, &error, self.clock.reading().boot);
                Ok(())
            }
        };
        if let Err(error) = stored {
            self.store_failed(&error).await;
        }
    }

    async fn take(&mut self, device: &str, answer: Answer) -> Result<(), StoreError> {
        match answer {
            Answer::Key(handle, mut found) => {
                if let Some(found) = &mut found {
                    self.claim(found);
                }
                if let Some(found) = &found {
                    self.view.made(device, found);
                }
                // What was intended may have been recovered or revoked meanwhile.
                let open = self.by_handle(&handle).is_some_and(|key| key.made.is_none());
                if !open {
                    return Ok(());
                }
                let mut given_up = None;
                self.swap(|keyset, cx| {
                    let (next, why) = change::adopt(keyset, &handle, found, cx);
                    given_up = why.clone();
                    let name = next.by_handle(&handle).map(Key::name);
                    let keys = vec![name.unwrap_or_else(|| format!("{handle:?}"))];
                    let (step, why) = match why {
                        None => ("adopt", format!("{device} made it")),
                        Some(why) => ("give-up", why),
                    };
                    (next, stepped(step, keys, why))
                })
                .await?;
                if let Some(reason) = given_up {
                    tracing::error!(issuer = %self.issuer, device, ?handle, reason, "a key pair was given up");
                }
                Ok(())
            }
            Answer::Listed(keys) => {
                self.view.listed(device, &keys);
                Ok(())
            }
            Answer::Gone(handle, was_there) => {
                self.view.gone(device, &handle);
                if !was_there {
                    tracing::error!(issuer = %self.issuer, device, ?handle, "a key to be destroyed was not there");
                }
                self.swap(|keyset, cx| {
                    let key = keyset.by_handle(&handle).map(Key::name).into_iter().collect();
                    let why = match was_there {
                        true => format!("{device} has destroyed it"),
                        false => format!("{device} did not have it any more"),
                    };
                    let next = change::destroyed(keyset, &handle, !was_there, cx);
                    (next, stepped("destroy", key, why))
                })
                .await
            }
        }
    }

    /// A pair that another key has, of whichever issuer, has a defect: a token would verify as another
    /// issuer's.
    pub(super) fn claim(&self, found: &mut DeviceKey) {
        let Some(public) = found.public.as_ref().filter(|_| found.defects.is_empty()) else {
            return;
        };
        if let Err(other) = self.pairs.claim(&public.kid(), &self.issuer, &found.handle) {
            found.defects.push(format!(
                "the device gave the same key twice: issuer {other} has it already; its random \
                 generator may be broken"
            ));
        }
    }

    fn by_handle(&self, handle: &KeyHandle) -> Option<&Key> {
        self.keyset.as_ref()?.by_handle(handle)
    }
}
