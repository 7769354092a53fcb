require ["reject"];
reject "I do not take this mail.";
