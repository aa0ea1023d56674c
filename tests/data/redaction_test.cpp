// Published test numbers of card issuers (Luhn), of ISO 13616 (IBAN) and the published formula of Korean resident
// registration numbers; and what must not be taken for any of them.
#include <ondol/data/redaction.h>

#include <gtest/gtest.h>

#include <ondol/base/error.h>

namespace ondol {
namespace {

std::string redacted(std::string text, RedactionCounts* counts = nullptr, const RedactionOptions& options = {}) {
  RedactionCounts own;
  redact(text, options, counts != nullptr ? *counts : own);
  return text;
}

TEST(Redaction, MailAddresses) {
  EXPECT_EQ(redacted("write to kim.chulsoo+news@mail.naver.co.kr."), "write to [EMAIL].");
  EXPECT_EQ(redacted("<a_b%c@x-y.example.org>, 메일은hong@daum.net으로"), "<[EMAIL]>, 메일은[EMAIL]으로");
  EXPECT_EQ(redacted("a@b.com b@c.de"), "[EMAIL] [EMAIL]");
  for (const char* other : {"@home", "me@", "a@b", "foo@bar.1", "user@localhost", "a.@b.com", "price @ 3.50 each"}) {
    EXPECT_EQ(redacted(other), other);
  }
}

TEST(Redaction, CardNumbers) {
  for (const char* card : {"4111111111111111", "4111 1111 1111 1111", "4012-8888-8888-1881", "5555555555554444",
                           "2223003122003222", "378282246310005", "3782 822463 10005", "6011111111111117",
                           "3530111333300000", "30569309025904", "4222222222222"}) {
    EXPECT_EQ(redacted(concat("no ", card, ".")), "no [CARD].");
  }
  // A wrong check digit, an unknown issuer, digits that go on, an ISBN.
  for (const char* other : {"4111111111111112", "9111111111111111", "41111111111111110", "0000000000000000",
                            "978-3-16-148410-0", "x4111111111111111"}) {
    EXPECT_EQ(redacted(other), other);
  }
  // Every other last digit is wrong.
  int found = 0;
  for (char digit = '0'; digit <= '9'; ++digit) found += redacted(std::string("411111111111111") + digit) == "[CARD]";
  EXPECT_EQ(found, 1);
}

TEST(Redaction, BankAccounts) {
  for (const char* iban : {"GB82WEST12345698765432", "GB82 WEST 1234 5698 7654 32", "DE89370400440532013000",
                           "FR1420041010050500013M02606", "CH93 0076 2011 6238 5295 7", "NL91ABNA0417164300",
                           "NO9386011117947", "MT84MALT011000012345MTLCAST001S"}) {
    EXPECT_EQ(redacted(concat("an ", iban, ",")), "an [IBAN],");
  }
  for (const char* other :
       {"GB82WEST12345698765433", "GB82WEST1234569876543", "XX82WEST12345698765432", "DE8937040044053201300012"}) {
    EXPECT_EQ(redacted(other), other);
  }
}

TEST(Redaction, ResidentRegistrationNumbers) {
  // 9·2+0·3+0·4+1·5+0·6+1·7+1·8+2·9+3·2+4·3+5·4+6·5 = 124, 124 mod 11 = 3, 11 - 3 = 8.
  EXPECT_EQ(redacted("900101-1234568"), "[RRN]");
  EXPECT_EQ(redacted("9001011234568"), "[RRN]");
  int found = 0;
  for (char digit = '0'; digit <= '9'; ++digit) found += redacted(std::string("900101-123456") + digit) == "[RRN]";
  EXPECT_EQ(found, 1);
  EXPECT_EQ(redacted("901301-1234568"), "901301-1234568");  // no month 13
  EXPECT_EQ(redacted("900230-1234568"), "900230-1234568");  // no 30 February
  EXPECT_EQ(redacted("900101-12345689"), "900101-12345689");
  // Born in November 2020: no check digit any more.
  EXPECT_EQ(redacted("201105-3000001 201105-4999999"), "[RRN] [RRN]");
}

TEST(Redaction, PhoneNumbers) {
  for (const char* phone :
       {"010-1234-5678", "01012345678", "010.1234.5678", "010 1234 5678", "02-123-4567", "02-1234-5678", "031-123-4567",
        "070-1234-5678", "0505-123-4567", "(02) 123-4567", "+82-10-1234-5678", "+82 (0)2 123 4567", "+1 (212) 555-0123",
        "(212) 555-0123", "212-555-0123", "212.555.0123", "1-800-555-0123", "+4930123456", "+44 20 7946 0958"}) {
    EXPECT_EQ(redacted(concat("call ", phone, "!")), "call [PHONE]!");
  }
  for (const char* other : {"2019-2020", "1588-1599", "123-456-7890", "2020-01-02", "12:34:56", "3.14159265358979",
                            "10,000,000", "1234567890", "012-345-6789", "+1", "+123", "#01012345678", "a010-1234-5678",
                            "010-1234-56789", "1.212.555.0123.9"}) {
    EXPECT_EQ(redacted(other), other);
  }
}

TEST(Redaction, NetworkAddresses) {
  for (const char* ip : {"8.8.8.8", "93.184.216.34", "2606:4700:4700::1111", "2001:4860:4860:0:0:0:0:8888"}) {
    EXPECT_EQ(redacted(concat("at ", ip, ",")), "at [IP],");
  }
  EXPECT_EQ(redacted("http://93.184.216.34:80/"), "http://[IP]:80/");
  for (const char* other :
       {"192.168.0.1", "10.1.2.3", "172.16.5.4", "127.0.0.1", "169.254.1.1", "192.0.2.7", "224.0.0.1", "0.0.0.0",
        "256.1.1.1", "1.2.3", "1.2.3.4.5", "fe80::1", "2001:db8::1", "::1", "12:30:45", "std::vector"}) {
    EXPECT_EQ(redacted(other), other);
  }
}

TEST(Redaction, KindsCanBeTurnedOffAndAreCounted) {
  const std::string text = "a@b.com 8.8.8.8 010-1234-5678 4111111111111111 900101-1234568 DE89370400440532013000";
  RedactionCounts counts;
  EXPECT_EQ(redacted(text, &counts), "[EMAIL] [IP] [PHONE] [CARD] [RRN] [IBAN]");
  EXPECT_EQ(counts.total(), 6);
  EXPECT_EQ(counts.email * counts.ip * counts.phone * counts.card * counts.resident * counts.iban, 1);
  const RedactionOptions none{
      .email = false, .ip = false, .phone = false, .card = false, .resident = false, .iban = false};
  EXPECT_EQ(redacted(text, nullptr, none), text);
  EXPECT_EQ(redacted(redacted(text)), redacted(text));
}

}  // namespace
}  // namespace ondol
