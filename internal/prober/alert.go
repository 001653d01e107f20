package prober

import (
	"errors"
	"fmt"
	"net"
	"reflect"
)

// Alert codes that stand for "no client certificate", RFC 8446, section 6.
const (
	alertHandshakeFailure    = 40
	alertBadCertificate      = 42
	alertCertificateRequired = 116
)

// alertNames are the alerts of RFC 8446, section 6, and RFC 7301, section 3.2.
var alertNames = map[uint8]string{
	0:                        "close_notify",
	10:                       "unexpected_message",
	20:                       "bad_record_mac",
	22:                       "record_overflow",
	alertHandshakeFailure:    "handshake_failure",
	alertBadCertificate:      "bad_certificate",
	43:                       "unsupported_certificate",
	44:                       "certificate_revoked",
	45:                       "certificate_expired",
	46:                       "certificate_unknown",
	47:                       "illegal_parameter",
	48:                       "unknown_ca",
	49:                       "access_denied",
	50:                       "decode_error",
	51:                       "decrypt_error",
	70:                       "protocol_version",
	71:                       "insufficient_security",
	80:                       "internal_error",
	86:                       "inappropriate_fallback",
	90:                       "user_canceled",
	109:                      "missing_extension",
	110:                      "unsupported_extension",
	112:                      "unrecognized_name",
	113:                      "bad_certificate_status_response",
	115:                      "unknown_psk_identity",
	alertCertificateRequired: "certificate_required",
	120:                      "no_application_protocol",
}

func alertName(code uint8) string {
	if name, ok := alertNames[code]; ok {
		return name
	}
	return fmt.Sprintf("alert_%d", code)
}

// alertCode is the code of the alert that the peer sent. crypto/tls reports it as a net.OpError with the operation
// "remote error" around an unexported integer type, so the number is read from its kind.
func alertCode(err error) (uint8, bool) {
	var opErr *net.OpError
	if !errors.As(err, &opErr) || opErr.Op != "remote error" {
		return 0, false
	}
	value := reflect.ValueOf(opErr.Err)
	if value.Kind() != reflect.Uint8 {
		return 0, false
	}
	return uint8(value.Uint()), true
}
