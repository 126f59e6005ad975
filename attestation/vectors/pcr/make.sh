#!/usr/bin/env bash
# Makes these vectors anew with swtpm, tpm2-tools and openssl, none of which the code here uses. DIRECTORY gets them;
# the default is this one. The authorities' keys are fresh in each run, and gone after it.
set -euo pipefail
out=$(realpath "${1:-$(dirname "$0")}")
work=$(mktemp -d)
trap 'kill "$tpm" 2>/dev/null; rm -rf "$work"' EXIT
cd "$work"
mkdir state
swtpm socket --tpm2 --tpmstate dir=state --server type=unixio,path=sock \
    --ctrl type=unixio,path=sock.ctrl --flags not-need-init,startup-clear >/dev/null 2>&1 &
tpm=$!
until [[ -S sock && -S sock.ctrl ]]; do sleep 0.05; done
export TPM2TOOLS_TCTI="swtpm:path=$work/sock" TSS2_LOG=all+NONE
quiet() { "$@" >/dev/null; }
clean() { tpm2_flushcontext -t && tpm2_flushcontext -s && tpm2_flushcontext -l; }

# A state: PCRs 0, 4 and 14 of SHA-256, two of them extended.
for pcr in 0 14; do tpm2_pcrextend "$pcr:sha256=$(openssl rand -hex 32)"; done
values=$(tpm2_pcrread sha256:0,4,14 | awk -F': *0x' 'NF == 2 { gsub(/ /, "", $1); printf "%s\"%s\": \"%s\"", sep, $1, tolower($2); sep = ", " }')
printf '{ "bank": "sha256", "pcrs": { %s } }\n' "$values" >"$out/state.json"

trial() { quiet tpm2_startauthsession -S session; }
digest() { xxd -p -c 64 "$1" >"$out/$2"; }
trial; quiet tpm2_policypcr -S session -l sha256:0,4,14 -L pcr.policy; digest pcr.policy pcr.policy
quiet tpm2_policyauthvalue -S session -L key.policy; digest key.policy key.policy; clean
printf 'mintwarden/pcr/1' >reference
cat pcr.policy reference >"$out/statement"

openssl ecparam -name prime256v1 -genkey -noout -out ecc.key
openssl genrsa -out rsa.key 2048 2>/dev/null
for kind in ecc:ecdsa rsa:rsassa; do
    scheme=${kind##*:} kind=${kind%%:*}
    openssl pkey -in $kind.key -pubout -out "$out/authority-$kind.pem"
    openssl dgst -sha256 -sign $kind.key -out "$out/statement-$kind.signature" "$out/statement"
    quiet tpm2_loadexternal -C o -G "$kind:$scheme-sha256:null" -a 'userwithauth|sign' -u "$out/authority-$kind.pem" \
        -n $kind.name -c $kind.ctx
    quiet tpm2_verifysignature -c $kind.ctx -g sha256 -f $scheme -m "$out/statement" -s "$out/statement-$kind.signature" -t ticket
    clean
    trial
    quiet tpm2_policyauthorize -S session -i pcr.policy -q reference -n $kind.name -L authorize.policy
    clean
    digest authorize.policy authorize-$kind.policy
    trial
    quiet tpm2_policyor -S session -l sha256:pcr.policy,authorize.policy
    quiet tpm2_policyauthvalue -S session -L both.policy
    clean
    digest both.policy key-$kind.policy
done

# Keys that no TPM verifies with.
openssl ecparam -name secp256k1 -genkey -noout | openssl pkey -pubout -out "$out/secp256k1.pem"
openssl genrsa 1024 2>/dev/null | openssl pkey -pubout -out "$out/rsa1024.pem"
