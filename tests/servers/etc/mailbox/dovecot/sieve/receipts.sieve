# A spam filter that takes every report about spammy@box.test for junk.
require ["fileinto", "body"];
if body :raw :contains "spammy@box.test" {
  fileinto "Junk";
}
