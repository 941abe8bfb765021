//! EGETKEY and EREPORT: keys that an enclave gets for being what it is.
//!
//! A key is the AES-128-CMAC, under a key of the machine, of everything it depends on (SDM EGETKEY, "Operation":
//! TMP_KEYDEPENDENCIES). The layout of that input is the processor's secret, so it is this module's own here:
//! keys are stable on a machine and mean nothing on another.

use aes::Aes128;
use cmac::{Cmac, KeyInit, Mac};
use sgx_arch::{
    Attributes, AttributesFlags, ErrorCode, KeyName, Keypolicy, Keyrequest, Miscselect, Report, ReportBody,
    Secs, Sigstruct, Targetinfo,
};
use sha2::{Digest, Sha256};
use zerocopy::{Immutable, IntoBytes};

use crate::epcm::Answer;
use crate::fault::Fault;

/// A 128-bit key.
pub type Key = [u8; 16];

/// CPUSVN of this machine: sixteen components, of which each may be asked for up to its value.
pub const CPUSVN: [u8; 16] = [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// ATTRIBUTES that every key depends on, whatever the mask: INIT and DEBUG.
const REQUIRED: AttributesFlags =
    AttributesFlags::from_bits_retain(AttributesFlags::INIT.bits() | AttributesFlags::DEBUG.bits());

/// What the fuses and the BIOS give a processor, derived from one secret.
#[derive(Clone)]
pub struct Root {
    derivation_key: Key,
    seal_fuses: Key,
    owner_epoch: Key,
    report_keyid: [u8; 32],
}

impl Root {
    /// The machine that `secret` makes.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        let part = |label: &str| -> [u8; 32] {
            Sha256::new().chain_update(label).chain_update([0]).chain_update(secret).finalize().into()
        };
        let half = |label: &str| {
            let mut key = Key::default();
            key.copy_from_slice(&part(label)[..16]);
            key
        };
        Self {
            derivation_key: half("software SGX: derivation key"),
            seal_fuses: half("software SGX: CR_SEAL_FUSES"),
            owner_epoch: half("software SGX: CR_SGXOWNEREPOCH"),
            report_keyid: part("software SGX: CR_REPORT_KEYID"),
        }
    }
}

/// The fields of a SECS that say what an initialized enclave is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// SECS.ATTRIBUTES, with INIT.
    pub attributes: Attributes,
    /// SECS.MISCSELECT.
    pub miscselect: Miscselect,
    /// SECS.CET_ATTRIBUTES.
    pub cet_attributes: u8,
    /// SECS.MRENCLAVE.
    pub mrenclave: [u8; 32],
    /// SECS.MRSIGNER.
    pub mrsigner: [u8; 32],
    /// SECS.CONFIGID.
    pub configid: [u8; 64],
    /// SECS.CONFIGSVN.
    pub configsvn: u16,
    /// SECS.ISVPRODID.
    pub isvprodid: u16,
    /// SECS.ISVSVN.
    pub isvsvn: u16,
    /// SECS.ISVFAMILYID.
    pub isvfamilyid: [u8; 16],
    /// SECS.ISVEXTPRODID.
    pub isvextprodid: [u8; 16],
}

impl Identity {
    /// What EINIT writes to the SECS after `sigstruct` was verified.
    #[must_use]
    pub fn new(secs: &Secs, mrenclave: [u8; 32], sigstruct: &Sigstruct) -> Self {
        let mut attributes = secs.attributes;
        attributes.flags |= AttributesFlags::INIT;
        Self {
            attributes,
            miscselect: secs.miscselect,
            cet_attributes: secs.cet_attributes,
            mrenclave,
            mrsigner: crate::sigstruct::mrsigner(&sigstruct.modulus),
            configid: secs.configid,
            configsvn: secs.configsvn,
            isvprodid: sigstruct.isvprodid,
            isvsvn: sigstruct.isvsvn,
            isvfamilyid: sigstruct.isvfamilyid,
            isvextprodid: sigstruct.isvextprodid,
        }
    }
}

/// TMP_KEYDEPENDENCIES. Every field is zero unless the kind of key says otherwise.
#[derive(Clone, Copy, IntoBytes, Immutable)]
#[repr(C)]
struct Dependencies {
    attributes: Attributes,
    attributemask: Attributes,
    keyname: u16,
    isvprodid: u16,
    isvsvn: u16,
    configsvn: u16,
    miscselect: Miscselect,
    miscmask: Miscselect,
    keypolicy: Keypolicy,
    cet_attributes: u8,
    cet_attributes_mask: u8,
    padding: [u8; 4],
    isvfamilyid: [u8; 16],
    isvextprodid: [u8; 16],
    owner_epoch: Key,
    seal_fuses: Key,
    cpusvn: [u8; 16],
    mrenclave: [u8; 32],
    mrsigner: [u8; 32],
    keyid: [u8; 32],
    configid: [u8; 64],
}

impl Dependencies {
    const fn new(name: KeyName) -> Self {
        Self {
            attributes: Attributes { flags: AttributesFlags::empty(), xfrm: 0 },
            attributemask: Attributes { flags: AttributesFlags::empty(), xfrm: 0 },
            keyname: name as u16,
            isvprodid: 0,
            isvsvn: 0,
            configsvn: 0,
            miscselect: Miscselect::empty(),
            miscmask: Miscselect::empty(),
            keypolicy: Keypolicy::empty(),
            cet_attributes: 0,
            cet_attributes_mask: 0,
            padding: [0; 4],
            isvfamilyid: [0; 16],
            isvextprodid: [0; 16],
            owner_epoch: [0; 16],
            seal_fuses: [0; 16],
            cpusvn: [0; 16],
            mrenclave: [0; 32],
            mrsigner: [0; 32],
            keyid: [0; 32],
            configid: [0; 64],
        }
    }

    fn key(&self, root: &Root) -> Key {
        cmac(&root.derivation_key, self.as_bytes())
    }
}

/// AES-128-CMAC (NIST SP 800-38B).
#[must_use]
pub fn cmac(key: &Key, message: &[u8]) -> [u8; 16] {
    let mut mac = Cmac::<Aes128>::new(key.into());
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// EGETKEY.
///
/// # Errors
/// #GP a reserved field is set, or the policy needs KSS. In the answer: INVALID_KEYNAME no such key;
/// INVALID_ATTRIBUTE the enclave may not have it; INVALID_CPUSVN or INVALID_ISVSVN a version beyond the
/// machine's or the enclave's own (CONFIGSVN included).
pub fn egetkey(root: &Root, enclave: &Identity, request: &Keyrequest) -> Result<Answer<Key>, Fault> {
    let kss = enclave.attributes.flags.contains(AttributesFlags::KSS);
    let policy = request.keypolicy;
    if request.reserved1 != 0
        || request.reserved2 != [0; 434]
        || policy.bits() & !Keypolicy::all().bits() != 0
        || !kss && (policy.intersects(Keypolicy::KSS) || request.configsvn != 0)
    {
        return Err(Fault::GeneralProtection);
    }
    let Some(name) = KeyName::from_number(request.keyname) else { return Ok(Err(ErrorCode::InvalidKeyname)) };
    let allowed = match name {
        KeyName::Einittoken => enclave.attributes.flags.contains(AttributesFlags::EINITTOKEN_KEY),
        KeyName::Provision | KeyName::ProvisionSeal => {
            enclave.attributes.flags.contains(AttributesFlags::PROVISIONKEY)
        }
        KeyName::Report | KeyName::Seal => true,
    };
    if !allowed {
        return Ok(Err(ErrorCode::InvalidAttribute));
    }
    if name == KeyName::Report {
        return Ok(Ok(report_key(root, &ReportTarget::from(enclave), &request.keyid)));
    }
    if request.cpusvn.iter().zip(CPUSVN).any(|(asked, own)| *asked > own) {
        return Ok(Err(ErrorCode::InvalidCpusvn));
    }
    if request.isvsvn > enclave.isvsvn || request.configsvn > enclave.configsvn {
        return Ok(Err(ErrorCode::InvalidIsvsvn));
    }
    Ok(Ok(dependencies(root, enclave, request, name).key(root)))
}

/// What a key other than the report key depends on.
fn dependencies(root: &Root, enclave: &Identity, request: &Keyrequest, name: KeyName) -> Dependencies {
    let mask = request.attributemask;
    let attributes = Attributes {
        flags: (mask.flags | REQUIRED) & enclave.attributes.flags,
        xfrm: mask.xfrm & enclave.attributes.xfrm,
    };
    let common = Dependencies {
        isvprodid: enclave.isvprodid,
        isvsvn: request.isvsvn,
        attributes,
        cpusvn: request.cpusvn,
        miscselect: request.miscmask & enclave.miscselect,
        mrsigner: enclave.mrsigner,
        ..Dependencies::new(name)
    };
    let masked = Dependencies {
        attributemask: mask,
        miscmask: Miscselect::from_bits_retain(!request.miscmask.bits()),
        ..common
    };
    match name {
        KeyName::Einittoken => Dependencies {
            owner_epoch: root.owner_epoch,
            keyid: request.keyid,
            seal_fuses: root.seal_fuses,
            ..common
        },
        KeyName::Provision => masked,
        KeyName::ProvisionSeal => {
            Dependencies { seal_fuses: root.seal_fuses, ..by_policy(masked, enclave, request) }
        }
        KeyName::Seal | KeyName::Report => {
            let policy = request.keypolicy;
            Dependencies {
                owner_epoch: root.owner_epoch,
                keyid: request.keyid,
                seal_fuses: root.seal_fuses,
                mrenclave: if policy.contains(Keypolicy::MRENCLAVE) { enclave.mrenclave } else { [0; 32] },
                mrsigner: if policy.contains(Keypolicy::MRSIGNER) { enclave.mrsigner } else { [0; 32] },
                ..by_policy(masked, enclave, request)
            }
        }
    }
}

/// The part of KEYPOLICY that KSS brought.
fn by_policy(base: Dependencies, enclave: &Identity, request: &Keyrequest) -> Dependencies {
    let policy = request.keypolicy;
    let with_config = policy.contains(Keypolicy::CONFIGID);
    Dependencies {
        keypolicy: policy,
        isvprodid: if policy.contains(Keypolicy::NOISVPRODID) { 0 } else { enclave.isvprodid },
        configid: if with_config { enclave.configid } else { [0; 64] },
        configsvn: if with_config { request.configsvn } else { 0 },
        isvfamilyid: if policy.contains(Keypolicy::ISVFAMILYID) { enclave.isvfamilyid } else { [0; 16] },
        isvextprodid: if policy.contains(Keypolicy::ISVEXTPRODID) { enclave.isvextprodid } else { [0; 16] },
        ..base
    }
}

/// Whose report key it is.
struct ReportTarget {
    attributes: Attributes,
    miscselect: Miscselect,
    cet_attributes: u8,
    mrenclave: [u8; 32],
    configid: [u8; 64],
    configsvn: u16,
}

impl From<&Identity> for ReportTarget {
    fn from(enclave: &Identity) -> Self {
        Self {
            attributes: enclave.attributes,
            miscselect: enclave.miscselect,
            cet_attributes: enclave.cet_attributes,
            mrenclave: enclave.mrenclave,
            configid: enclave.configid,
            configsvn: enclave.configsvn,
        }
    }
}

impl From<&Targetinfo> for ReportTarget {
    fn from(target: &Targetinfo) -> Self {
        Self {
            attributes: target.attributes,
            miscselect: target.miscselect,
            cet_attributes: target.cet_attributes,
            mrenclave: target.measurement,
            configid: target.configid,
            configsvn: target.configsvn,
        }
    }
}

fn report_key(root: &Root, target: &ReportTarget, keyid: &[u8; 32]) -> Key {
    Dependencies {
        owner_epoch: root.owner_epoch,
        seal_fuses: root.seal_fuses,
        cpusvn: CPUSVN,
        keyid: *keyid,
        attributes: target.attributes,
        miscselect: target.miscselect,
        cet_attributes: target.cet_attributes,
        mrenclave: target.mrenclave,
        configid: target.configid,
        configsvn: target.configsvn,
        ..Dependencies::new(KeyName::Report)
    }
    .key(root)
}

/// EREPORT: says to `target` what `enclave` is, with 64 bytes of its own.
#[must_use]
pub fn ereport(root: &Root, enclave: &Identity, target: &Targetinfo, reportdata: &[u8; 64]) -> Report {
    let body = ReportBody {
        cpusvn: CPUSVN,
        miscselect: enclave.miscselect,
        cet_attributes: enclave.cet_attributes,
        isvextprodid: enclave.isvextprodid,
        attributes: enclave.attributes,
        mrenclave: enclave.mrenclave,
        mrsigner: enclave.mrsigner,
        configid: enclave.configid,
        isvprodid: enclave.isvprodid,
        isvsvn: enclave.isvsvn,
        configsvn: enclave.configsvn,
        isvfamilyid: enclave.isvfamilyid,
        reportdata: *reportdata,
        ..ReportBody::default()
    };
    let key = report_key(root, &ReportTarget::from(target), &root.report_keyid);
    Report { body, keyid: root.report_keyid, mac: cmac(&key, body.as_bytes()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use AttributesFlags as A;
    use Keypolicy as P;

    fn root() -> Root {
        Root::new(&[9; 32])
    }

    fn enclave() -> Identity {
        Identity {
            attributes: Attributes { flags: A::INIT | A::MODE64BIT | A::KSS, xfrm: 7 },
            miscselect: Miscselect::EXINFO,
            cet_attributes: 0,
            mrenclave: [1; 32],
            mrsigner: [2; 32],
            configid: [3; 64],
            configsvn: 4,
            isvprodid: 5,
            isvsvn: 6,
            isvfamilyid: [7; 16],
            isvextprodid: [8; 16],
        }
    }

    fn request(keypolicy: P) -> Keyrequest {
        let all = Attributes { flags: A::from_bits_retain(!0), xfrm: !0 };
        Keyrequest {
            keyname: KeyName::Seal as u16,
            keypolicy,
            isvsvn: 6,
            configsvn: 4,
            cpusvn: CPUSVN,
            attributemask: all,
            miscmask: Miscselect::from_bits_retain(!0),
            ..Keyrequest::default()
        }
    }

    fn key_of(enclave: &Identity, request: &Keyrequest) -> Key {
        egetkey(&root(), enclave, request).unwrap().unwrap()
    }

    /// Whether the change makes another key under the policy.
    fn depends(policy: P, change: impl Fn(&mut Identity)) -> bool {
        let mut other = enclave();
        change(&mut other);
        key_of(&enclave(), &request(policy)) != key_of(&other, &request(policy))
    }

    #[test]
    fn cmac_is_that_of_rfc_4493() {
        let key =
            [0x2b, 0x7e, 0x15, 0x16, 0x28, 0xae, 0xd2, 0xa6, 0xab, 0xf7, 0x15, 0x88, 0x09, 0xcf, 0x4f, 0x3c];
        assert_eq!(cmac(&key, b"")[..4], [0xbb, 0x1d, 0x69, 0x29]);
    }

    #[test]
    fn seal_keys_depend_on_what_the_policy_names_and_on_nothing_else() {
        type Change = fn(&mut Identity);
        let rows: [(P, Change); 5] = [
            (P::MRENCLAVE, |other| other.mrenclave = [0xff; 32]),
            (P::MRSIGNER, |other| other.mrsigner = [0xff; 32]),
            (P::CONFIGID, |other| other.configid = [0xff; 64]),
            (P::ISVFAMILYID, |other| other.isvfamilyid = [0xff; 16]),
            (P::ISVEXTPRODID, |other| other.isvextprodid = [0xff; 16]),
        ];
        for bits in 0..64 {
            let policy = P::from_bits_retain(bits);
            for (row, change) in rows {
                assert_eq!(depends(policy, change), policy.contains(row), "{policy:?} {row:?}");
            }
            let product = |other: &mut Identity| other.isvprodid = 99;
            assert_eq!(depends(policy, product), !policy.contains(P::NOISVPRODID), "{policy:?}");
        }
    }

    #[test]
    fn every_policy_is_a_key_of_its_own() {
        let keys: std::collections::HashSet<_> =
            (0..64).map(|bits| key_of(&enclave(), &request(P::from_bits_retain(bits)))).collect();
        assert_eq!(keys.len(), 64);
    }

    #[test]
    fn older_versions_are_given_and_newer_ones_refused() {
        let ask = |change: &dyn Fn(&mut Keyrequest)| {
            let mut request = request(P::MRSIGNER | P::CONFIGID);
            change(&mut request);
            egetkey(&root(), &enclave(), &request).unwrap()
        };
        let current = ask(&|_| ()).unwrap();
        assert_ne!(ask(&|request| request.isvsvn = 5).unwrap(), current);
        assert_ne!(ask(&|request| request.cpusvn = [0; 16]).unwrap(), current);
        assert_ne!(ask(&|request| request.configsvn = 3).unwrap(), current);
        assert_ne!(ask(&|request| request.keyid[31] = 1).unwrap(), current);
        assert_eq!(ask(&|request| request.isvsvn = 7), Err(ErrorCode::InvalidIsvsvn));
        assert_eq!(ask(&|request| request.configsvn = 5), Err(ErrorCode::InvalidIsvsvn));
        assert_eq!(ask(&|request| request.cpusvn[0] = 2), Err(ErrorCode::InvalidCpusvn));
        assert_eq!(ask(&|request| request.cpusvn[15] = 1), Err(ErrorCode::InvalidCpusvn));
        // A newer version of the enclave gets the key of the older one.
        let newer = Identity { isvsvn: 60, ..enclave() };
        assert_eq!(key_of(&newer, &request(P::MRSIGNER | P::CONFIGID)), current);
    }

    #[test]
    fn a_debug_enclave_never_shares_a_key_with_a_release_one() {
        let mut request = request(P::MRSIGNER);
        request.attributemask = Attributes::default();
        let mut debug = enclave();
        debug.attributes.flags |= A::DEBUG;
        assert_ne!(key_of(&enclave(), &request), key_of(&debug, &request));
        // What the mask leaves out does not count.
        let mut other = enclave();
        other.attributes.xfrm = 3;
        assert_eq!(key_of(&enclave(), &request), key_of(&other, &request));
        request.attributemask.xfrm = 4;
        assert_ne!(key_of(&enclave(), &request), key_of(&other, &request));
    }

    #[test]
    fn malformed_requests_fault() {
        let faults = |enclave: &Identity, request: &Keyrequest| {
            egetkey(&root(), enclave, request) == Err(Fault::GeneralProtection)
        };
        let mut bad = request(P::MRSIGNER);
        bad.reserved1 = 1;
        assert!(faults(&enclave(), &bad));
        let mut bad = request(P::MRSIGNER);
        bad.reserved2[433] = 1;
        assert!(faults(&enclave(), &bad));
        assert!(faults(&enclave(), &request(P::from_bits_retain(0x40))));
        let plain = Identity { attributes: Attributes { flags: A::INIT, xfrm: 3 }, ..enclave() };
        assert!(faults(&plain, &request(P::CONFIGID)));
        assert!(faults(&plain, &request(P::MRSIGNER)), "CONFIGSVN without KSS");
        assert!(!faults(&plain, &Keyrequest { configsvn: 0, ..request(P::MRSIGNER) }));
    }

    #[test]
    fn privileged_keys_need_their_attribute() {
        for (name, attribute) in [
            (KeyName::Provision, A::PROVISIONKEY),
            (KeyName::ProvisionSeal, A::PROVISIONKEY),
            (KeyName::Einittoken, A::EINITTOKEN_KEY),
        ] {
            let request = Keyrequest { keyname: name as u16, ..request(P::empty()) };
            let mut allowed = enclave();
            allowed.attributes.flags |= attribute;
            assert_eq!(egetkey(&root(), &enclave(), &request).unwrap(), Err(ErrorCode::InvalidAttribute));
            assert!(egetkey(&root(), &allowed, &request).unwrap().is_ok());
        }
        let unknown = Keyrequest { keyname: 5, ..request(P::empty()) };
        assert_eq!(egetkey(&root(), &enclave(), &unknown).unwrap(), Err(ErrorCode::InvalidKeyname));
    }

    #[test]
    fn provisioning_keys_outlive_the_owner() {
        // They depend neither on the owner epoch nor on KEYID, and PROVISION_KEY not on the fuses.
        let mut sold = root();
        sold.owner_epoch = [0xff; 16];
        let mut allowed = enclave();
        allowed.attributes.flags |= A::PROVISIONKEY;
        for name in [KeyName::Provision, KeyName::ProvisionSeal] {
            let one = Keyrequest { keyname: name as u16, ..request(P::empty()) };
            let other = Keyrequest { keyid: [1; 32], ..one };
            assert_eq!(egetkey(&root(), &allowed, &one), egetkey(&sold, &allowed, &other));
        }
        let seal = request(P::MRSIGNER);
        assert_ne!(egetkey(&root(), &allowed, &seal), egetkey(&sold, &allowed, &seal));
    }

    fn verify(root: &Root, verifier: &Identity, report: &Report) -> bool {
        let request =
            Keyrequest { keyname: KeyName::Report as u16, keyid: report.keyid, ..Keyrequest::default() };
        let key = egetkey(root, verifier, &request).unwrap().unwrap();
        cmac(&key, report.body.as_bytes()) == report.mac
    }

    #[test]
    fn a_report_verifies_for_its_target_on_its_machine_only() {
        let target = Identity { mrenclave: [0xaa; 32], mrsigner: [0xbb; 32], ..enclave() };
        let for_target = ereport(&root(), &target, &Targetinfo::default(), &[0; 64]).body;
        let report = ereport(&root(), &enclave(), &Targetinfo::from(&for_target), &[5; 64]);
        assert_eq!(report.body.mrenclave, enclave().mrenclave);
        assert_eq!(report.body.reportdata, [5; 64]);
        assert!(verify(&root(), &target, &report));
        assert!(!verify(&root(), &enclave(), &report));
        assert!(!verify(&Root::new(&[10; 32]), &target, &report));
        let forged = Report { body: ReportBody { isvsvn: 7, ..report.body }, ..report };
        assert!(!verify(&root(), &target, &forged));
    }

    #[test]
    fn machines_have_keys_of_their_own() {
        let request = request(P::MRSIGNER);
        let elsewhere = egetkey(&Root::new(&[10; 32]), &enclave(), &request).unwrap().unwrap();
        assert_ne!(elsewhere, key_of(&enclave(), &request));
    }
}
