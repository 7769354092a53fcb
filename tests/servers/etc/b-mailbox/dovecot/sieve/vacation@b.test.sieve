require ["vacation"];
vacation :days 1 :addresses ["vacation@b.test"] :subject "Out of office" "I am back on Monday, 30 November 2026.";
keep;
