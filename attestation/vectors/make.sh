#!/usr/bin/env bash
# Makes the vectors anew with swtpm, tpm2-tools and openssl, none of which the code here uses.
# DIRECTORY gets them; the default is this one. Keys and nonces are fresh in each run.
set -euo pipefail
out=$(realpath "${1:-$(dirname "$0")}")
work=$(mktemp -d)
trap 'kill "$tpm" 2>/dev/null; rm -rf "$work"' EXIT
cd "$work"
mkdir state ca
cat >localca.conf <<CONF
statedir = $work/ca
signingkey = $work/ca/signkey.pem
issuercert = $work/ca/issuercert.pem
certserial = $work/ca/certserial
CONF
cat >localca.options <<CONF
--platform-manufacturer Example
--platform-version 1
--platform-model swtpm
CONF
cat >setup.conf <<CONF
create_certs_tool = /usr/bin/swtpm_localca
create_certs_tool_config = $work/localca.conf
create_certs_tool_options = $work/localca.options
active_pcr_banks = sha256
CONF
swtpm_setup --tpm2 --tpmstate state --create-ek-cert --config setup.conf >/dev/null
swtpm socket --tpm2 --tpmstate dir=state --server type=unixio,path=sock \
    --ctrl type=unixio,path=sock.ctrl --flags not-need-init,startup-clear >/dev/null 2>&1 &
tpm=$!
until [[ -S sock && -S sock.ctrl ]]; do sleep 0.05; done
export TPM2TOOLS_TCTI="swtpm:path=$work/sock" TSS2_LOG=all+NONE
# Nothing stands between these tools and the TPM that would make room for the next one.
quiet() { "$@" >/dev/null && tpm2_flushcontext -t && tpm2_flushcontext -s && tpm2_flushcontext -l; }

# The chain: an endorsement key's certificate, its issuer and the root.
tpm2_nvread 0x01c00002 -C p -o "$out/ek-rsa.der" 2>/dev/null
cp ca/issuercert.pem "$out/ek-issuer.pem"
cp ca/swtpm-localca-rootca-cert.pem "$out/ek-root.pem"

common='fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda'
for kind in rsa ecc; do quiet tpm2_createek -G $kind -c $kind.ctx -u "$out/ek-$kind.pub" -f tss; done
quiet tpm2_createprimary -C e -G ecc256:ecdsa-sha256:null -c ak.ctx -a "$common|restricted|sign"
quiet tpm2_readpublic -c ak.ctx -o "$out/ak.pub" -f tss -n "$out/ak.name" -q "$out/ak.qualified-name"
quiet tpm2_createprimary -C o -G ecc256:null:aes128cfb -c parent.ctx -a "$common|restricted|decrypt"
quiet tpm2_readpublic -c parent.ctx -o "$out/parent.pub" -f tss -n "$out/parent.name" -q "$out/parent.qualified-name"
for kind in ecc256:ecdsa-sha256 ecc384:ecdsa-sha384 rsa2048:rsassa-sha256; do
    name=key-${kind%%:*}
    quiet tpm2_create -C parent.ctx -G $kind -u "$name.pub" -r "$name.priv" -a "$common|sign"
    quiet tpm2_load -C parent.ctx -u "$name.pub" -r "$name.priv" -c "$name.ctx"
    quiet tpm2_readpublic -c "$name.ctx" -o "$out/$name.pub" -f tss -n "$out/$name.name" -q "$out/$name.qualified-name"
    quiet tpm2_readpublic -c "$name.ctx" -o "$out/$name.pem" -f pem
done

# TPM2_Certify (part 3, section 18.2) as bytes: tpm2_certify takes no qualifying data.
quiet tpm2_evictcontrol -C o -c ak.ctx 0x81000101
quiet tpm2_evictcontrol -C o -c key-ecc256.ctx 0x81000102
openssl rand 32 >"$out/nonce"
password=40000009 empty=0000 attributes=00
session=$password$empty$attributes$empty
body=00000148810001028100010100000012$session$session
body+=0020$(xxd -p -c 64 "$out/nonce")0010
printf '8002%08x%s' $((6 + ${#body} / 2)) "$body" | xxd -r -p >certify.command
tpm2_send -o certify.response certify.command
# Header of 10 bytes, length of parameters, length of the attestation; then the signature up to the
# answers of two sessions, 5 bytes each.
length=$((16#$(xxd -p -s 14 -l 2 certify.response)))
total=$(stat -c %s certify.response)
tail -c +17 certify.response | head -c $length >"$out/certify.attest"
tail -c +$((17 + length)) certify.response | head -c $((total - 16 - length - 10)) >"$out/certify.signature"
quiet tpm2_quote -c 0x81000101 -l sha256:0 -q "$(xxd -p -c 64 "$out/nonce")" -m "$out/quote.attest" -s "$out/quote.signature" -f tss

# Credentials for endorsement keys whose private half is known, so that software can open them.
openssl rand 32 >"$out/secret"
openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -outform DER -out "$out/known-rsa.der" 2>/dev/null
openssl pkcs8 -topk8 -nocrypt -inform DER -in "$out/known-rsa.der" -outform DER -out rsa.p8 && mv rsa.p8 "$out/known-rsa.der"
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -outform DER -out ec.der
openssl pkcs8 -topk8 -nocrypt -inform DER -in ec.der -outform DER -out "$out/known-ecc.der"
{
    head -c -256 "$out/ek-rsa.pub"
    openssl rsa -inform DER -in "$out/known-rsa.der" -noout -modulus 2>/dev/null | cut -d= -f2 | xxd -r -p
} >"$out/known-rsa.pub"
openssl pkey -inform DER -in "$out/known-ecc.der" -pubout -outform DER | tail -c 64 >point
{
    head -c -68 "$out/ek-ecc.pub"
    printf '\0\x20'; head -c 32 point; printf '\0\x20'; tail -c 32 point
} >"$out/known-ecc.pub"
for kind in rsa ecc; do
    quiet tpm2_makecredential -u "$out/known-$kind.pub" -s "$out/secret" \
        -n "$(xxd -p -c 100 "$out/ak.name")" -o "$out/known-$kind.credential"
done
